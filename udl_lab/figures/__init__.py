"""One function per picture, drawn from a table; each returns a matplotlib Figure."""
