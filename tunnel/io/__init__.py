"""The only modules that open descriptors: TUN devices and UDP sockets."""
