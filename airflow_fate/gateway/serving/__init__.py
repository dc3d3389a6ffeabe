"""Which request runs next, and with which model? The queue before the engine, and who may be in it."""
