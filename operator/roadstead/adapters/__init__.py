"""The world behind the ports: API server, agents, Ray cells, gateways, Postgres. Parses at the edge, decides nothing."""
