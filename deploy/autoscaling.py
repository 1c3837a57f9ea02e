"""How many replicas Ray Serve runs: by the padded steps that wait, not by requests, which differ a hundredfold."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

STEPS = "waiting_steps"
"""The name under which a replica reports its steps."""


class BySteps:
    """An autoscaling policy: as many replicas as give each at most ``steps_each`` waiting steps."""

    def __init__(self, steps_each: int) -> None:
        self.steps_each = steps_each

    def __call__(self, context: "AutoscalingContext") -> tuple[int, dict[str, Any]]:
        """The number of replicas, and what the policy wants to remember: nothing."""
        reported = (context.aggregated_metrics or {}).get(STEPS)
        if not reported:
            # Nothing was reported yet: as many as there are.
            return context.target_num_replicas, {}
        wanted = math.ceil(sum(reported.values()) / self.steps_each)
        least, most = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
        return min(max(wanted, least), most), {}
