"""One suite per port, run by everything that stands behind the port."""
