"""Remote judges: models behind servers that speak OpenAI's protocol, vLLM's, SGLang's, or typed questions.

``connect.open_remote`` makes one from its name; it is a ``RewardModel`` like any other. Loads no torch, but
where a tokenizer is named.
"""
