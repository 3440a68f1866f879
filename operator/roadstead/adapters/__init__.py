"""The world behind the ports: API server, agents, cells, gateways, Postgres. Parses at the edge, decides nothing."""
