"""The read side: the fold from events to rows, the stores behind one port, the projector, rebuild and verify."""
