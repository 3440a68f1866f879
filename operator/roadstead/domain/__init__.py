"""The nouns: frozen values without behaviour of their own, importing nothing but the standard library."""
