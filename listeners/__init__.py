"""Who hears what the client and the application announce, and what a terminal has to do with it: options, signals."""
