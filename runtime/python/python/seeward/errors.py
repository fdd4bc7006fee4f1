"""What this package raises. A request's own error is an element of `RewardModel.score_batch`'s list and ends no other
request."""


class SeewardError(Exception):
    """Base of the others."""


class BundleError(SeewardError):
    """The bundle is missing, broken, has changed, or lacks what was asked for."""


class DeviceError(SeewardError):
    """The device is missing, or cannot run this bundle."""


class LibraryError(SeewardError):
    """ONNX Runtime's library cannot be loaded."""


class EngineError(SeewardError):
    """The engine failed: no request of the call was scored."""


class QueueFull(SeewardError):
    """Too much waits in the batcher. Try again later."""


class Closed(SeewardError):
    """The batcher accepts no more requests."""


class RequestError(SeewardError, ValueError):
    """A request that cannot be scored."""


class PromptError(RequestError):
    """Prompt, images and responses make no conversation that the model can read."""


class ImageError(RequestError):
    """An image is missing, broken or too large."""

    image: str
    """Its path, or its place among the request's images, counted from 1."""

    def __init__(self, message: str, image: str) -> None:
        super().__init__(message, image)
        self.image = image

    def __str__(self) -> str:
        return str(self.args[0])


class NotFinite(RequestError):
    """A reward is NaN or infinite: a value inside the model exceeds the range of its precision."""

    response: int
    """The response's place in the request, counted from 1."""
    reward: float

    def __init__(self, message: str, response: int, reward: float) -> None:
        super().__init__(message, response, reward)
        self.response = response
        self.reward = reward

    def __str__(self) -> str:
        return str(self.args[0])
