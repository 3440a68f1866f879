"""A whole fleet on one machine: a real API server, Postgres, Ray and two nodes under one supervisor."""
