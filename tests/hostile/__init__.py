"""What an enemy would send: a table of named cases, and the tests that feed it to the API, the topics and the stores."""
