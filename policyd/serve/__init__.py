"""The processes' outer side: sockets, servers for both protocols and HTTP, workers."""
