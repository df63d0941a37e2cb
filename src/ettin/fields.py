"""What recipes and suites are built of: frozen models, and numbers as people write them."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ettin.numbers import parse_count, parse_number

Count = Annotated[int, BeforeValidator(parse_count), Field(ge=0)]
Positive = Annotated[int, BeforeValidator(parse_count), Field(ge=1)]
Rate = Annotated[float, BeforeValidator(parse_number), Field(ge=0, le=1)]
Amount = Annotated[float, BeforeValidator(parse_number), Field(ge=0, allow_inf_nan=False)]
PositiveAmount = Annotated[float, BeforeValidator(parse_number), Field(gt=0, allow_inf_nan=False)]


class Strict(BaseModel):
    """Frozen, and no key is accepted that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")
