"""Numbers with a range, for annotations: the configuration check reads them, the code does not.

`batch_size: Positive` documents the range where the argument stands, and a value outside it is
refused by name before anything is built.
"""

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

Positive = Annotated[int, Ge(1)]
NonNegative = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]
Probability = Annotated[float, Gt(0), Lt(1)]
UnitInterval = Annotated[float, Ge(0), Le(1)]
