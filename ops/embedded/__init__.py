"""A real Kafka and a real PostgreSQL out of wheels and jars, for a laptop and for the tests."""
