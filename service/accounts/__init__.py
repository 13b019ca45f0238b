"""Who may use the service, and whose a sweep is: users, tokens, owners, what they did."""
