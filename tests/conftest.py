"""All tests have the fixtures of pgqueue's own pytest plugin, and pytest's bench for plugins."""

pytest_plugins = ["pgqueue.testing.plugin", "pytester"]
