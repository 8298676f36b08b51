"""The measurements behind the choices of the tree engine, as listed in docs/decisions.md.

Parts, each of which can be run alone:
  losses    the sum of the cross-entropy over a vocabulary, forward and backward: ours (engine/heads.py),
            torch's linear_cross_entropy, and full logits; output layers of both shapes of the bench, fp32
  compile   scoring with torch.compile: norms and gated products, or the body around our attention; with the
            time to compile. Needs a C++ compiler
  shared    the shortest run of tokens that is shared (16, 8, 4, 2): scoring W1, W2 and W3, and training steps
            on the short rows of the demonstration
  packs     scoring W1 in packs of at most 4096, 2048, 1024 and 512 tokens, beside the default; the default of
            a CPU with enough memory is 4096, so that this ratio shows the noise
  blocks    scoring W1 and W2 with the queries of a long node in blocks, and all in one
  demo      training on the demonstration's rows: the plain engine and the tree
  tied      a step of stage 2 with tied embeddings: the gradient of the label rows sparse, and whole
  profile   where the time of scoring and of training steps goes

One thread; process CPU seconds; the paths of a part take turns, and a ratio is given as median, lowest and
highest over rounds. The profiler alone counts wall time: run it where nothing else does. Models have random
weights; shapes, workloads and texts are those of ``gram bench``. ``--smoke`` shows in seconds that all runs,
and measures nothing.

Command: OMP_NUM_THREADS=1 python -m experiments.engine_choices --data FOLDER [--parts losses profile ...]
[--rounds 3]. FOLDER held the real answers that docs/performance.md names; without it they are made up.
Each part replaces its entry in experiments/results/engine_choices.json. All parts: about 16 minutes of one
core.
"""
