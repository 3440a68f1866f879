"""The gateway: answers clients in OpenAI's words, routes to replicas, counts; asks nobody anything per request."""
