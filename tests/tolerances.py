"""Every tolerance of the tests, in one place; none is ever loosened to make a test pass."""

FP32 = 1e-5
"""Same formula, other order of summation, in fp32: logits, attention outputs and gradients."""

FP32_FAR_ANGLE = 5e-3
"""A rotation by about 8,000 radians in fp32, which holds such an angle to 5e-4 only."""

FP32_ROTATED = 1e-4
"""A product of two rotated vectors in fp32 against the same at another place."""

FP64 = 1e-12
"""The same in float64, where rounding hides nothing: a wrong mask shows as 1e-3 and more."""

BF16 = 2e-2
"""Attention in bfloat16 against the float64 definition, as a share of the tensor's largest value
(at least 1): bfloat16 holds numbers between 4 and 8 only to 1.6e-2, whatever is computed."""

STANDARD_ERRORS = 4.0
"""How far a sampled statistic may lie from its expectation: once in 16,000 draws by chance."""

GOLDEN_LOSS = 3e-4
"""Nats between a short training curve and the recorded one, other machines' kernels included."""

SCORE = 1e-4
"""A sum of log-probabilities in fp32 against the same with other rows beside it in the batch."""

PROCESSES_FP64 = 1e-9
"""Relative, losses of several processes against those of one, in float64 after 50 steps."""

PROCESSES_FP32 = 1e-6
"""Relative, a loss and gradients of one step of several processes against those of one, in fp32;
of a gradient, as a share of its largest value."""

PROCESSES_FP32_LATER = 1e-5
"""Relative, losses of the first 20 steps at 3e-4, likewise: training amplifies rounding."""
