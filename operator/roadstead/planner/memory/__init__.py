"""How much memory an engine needs: from the header alone, before anything has been started."""
