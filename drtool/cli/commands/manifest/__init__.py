"""`manifest`: inspect, check and recover the replicated catalogue."""
