"""The API in one process, for unit tests: the real app and the real store in memory, fakes for Kafka at the app's ports."""
