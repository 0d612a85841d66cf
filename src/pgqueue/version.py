"""The version of this package, here and in the schemas that it installs."""

__version__ = "0.1.0"
