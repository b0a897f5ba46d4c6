"""The HTTP side of the gateway, on Starlette: gate (who, how much, how it is told of), routes, answers, server."""
