"""Safety reasoning distilled into a student, what the student kept of its base, and sampling around it.

The library in ten lines is ``dalign.api``. Importing ``dalign`` itself imports nothing.
"""

__version__ = "0.1.0"
