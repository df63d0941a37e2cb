"""What recipes and suites are built of: frozen models, and numbers as people write them."""

from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_serializer,
    model_validator,
)

from ettin.numbers import parse_count, parse_number

Count = Annotated[int, BeforeValidator(parse_count), Field(ge=0)]
Positive = Annotated[int, BeforeValidator(parse_count), Field(ge=1)]
Rate = Annotated[float, BeforeValidator(parse_number), Field(ge=0, le=1)]
Amount = Annotated[float, BeforeValidator(parse_number), Field(ge=0, allow_inf_nan=False)]
PositiveAmount = Annotated[float, BeforeValidator(parse_number), Field(gt=0, allow_inf_nan=False)]


class Strict(BaseModel):
    """Frozen, and no key is accepted that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Share(Strict):
    """How much of a phase comes from one source of its mixture; a bare count is a weight."""

    weight: Positive | None = None
    """Rows, relative to the other weights: a share of the rows that budgets leave."""
    tokens: Positive | None = None
    """Tokens of the source that the phase reads, BOS and EOS counted, as the ledger counts them."""
    epochs: PositiveAmount | None = None
    """How often the phase reads the source; below 1 it reads as much of it, each row once."""

    @model_validator(mode="before")
    @classmethod
    def _bare_count(cls, given: Any) -> Any:
        return given if isinstance(given, dict | Share) else {"weight": given}

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        if len(self.given) != 1:
            stated = " and ".join(self.given) or "none"
            raise ValueError(f"expected one of {', '.join(Share.model_fields)}, got {stated}")
        return self

    @model_serializer
    def _as_written(self) -> int | dict[str, int | float]:
        return self.weight or self.given

    @property
    def given(self) -> dict[str, int | float]:
        """The keys that are given, with their values; one."""
        stated = {"weight": self.weight, "tokens": self.tokens, "epochs": self.epochs}
        return {key: value for key, value in stated.items() if value is not None}
