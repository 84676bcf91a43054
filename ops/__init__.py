"""Running the platform: the command line, the supervisor and the embedded servers."""
