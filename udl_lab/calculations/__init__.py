"""Calculations: experiments without training, one class a file; each gives numbers and figures."""
