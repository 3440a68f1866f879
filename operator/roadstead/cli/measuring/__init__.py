"""`roadstead measure-quality`: what llama.cpp's `llama-perplexity` says of variants, as records on the LocalModel."""
