"""Small problems whose every answer is known: estimators beside their exact mean and variance."""
