"""Speed, measured: each benchmark times a path of ours beside a peer in one interleaved run."""
