"""What the fleet is made of: frozen dataclasses and enums. Imports the standard library only."""
