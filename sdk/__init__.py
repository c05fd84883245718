"""Sanderling runs multimodal transformers on a device inside a budget.

session = sanderling.load("model.sand")
answer = session.run({"image": frame, "text": "a red car"}, budget=sanderling.Budget(latency_ms=20))
answer.outputs["image_embeddings"], answer.receipt
"""

from sanderling.budget import Budget, Plan
from sanderling.bundle import Bundle
from sanderling.device_budget import DeviceBudget
from sanderling.errors import (
    BudgetError,
    BudgetTooSmallError,
    BundleError,
    CameraError,
    CameraStalledError,
    CheckFailedError,
    CheckpointError,
    DeadlineMissedError,
    DeviceFullError,
    DriftError,
    GoalsMissedError,
    InputError,
    InternalError,
    MissingExtraError,
    ReceiptsLostError,
    RecipeError,
    SanderlingError,
    UnknownNameError,
    UnsupportedError,
    UserError,
)
from sanderling.receipt import Receipt
from sanderling.receipts import ReceiptLog
from sanderling.reuse import Reuse
from sanderling.session import Answer, Session, load

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "Budget",
    "BudgetError",
    "BudgetTooSmallError",
    "Bundle",
    "BundleError",
    "CameraError",
    "CameraStalledError",
    "CheckFailedError",
    "CheckpointError",
    "DeadlineMissedError",
    "DeviceBudget",
    "DeviceFullError",
    "DriftError",
    "GoalsMissedError",
    "InputError",
    "InternalError",
    "MissingExtraError",
    "Plan",
    "Receipt",
    "ReceiptLog",
    "ReceiptsLostError",
    "RecipeError",
    "Reuse",
    "SanderlingError",
    "Session",
    "UnknownNameError",
    "UnsupportedError",
    "UserError",
    "__version__",
    "load",
]
