"""The service's pages: what a browser shows of it. They ask the API, as every other caller."""
