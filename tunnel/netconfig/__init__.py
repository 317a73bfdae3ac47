"""Addresses, routes and MTU of the interface, as data and as commands."""
