"""What all doors have in common: calling one, following its state, following which doors there are."""
