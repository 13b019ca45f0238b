"""The service over HTTP: routes that call actions, and who may call which."""
