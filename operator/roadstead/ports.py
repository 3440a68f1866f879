"""The Protocols through which the services reach the world; the adapters answer to them, tests put memory behind them."""
