"""Jobs that run at the same time on one machine get a GPU each."""

import pytest

from ettin.suite.devices import VISIBLE, Devices


def test_each_job_gets_the_device_that_the_fewest_others_have() -> None:
    devices = Devices(["4", "7"])
    taken = [devices.take(name)[VISIBLE] for name in ("a", "b", "c")]
    assert taken == ["4", "7", "4"]
    devices.give_back("b")
    assert devices.take("d") == {VISIBLE: "7"}
    devices.give_back("a")
    devices.give_back("c")
    assert devices.take("e") == {VISIBLE: "4"}


@pytest.mark.parametrize("names", [[], ["0"]])
def test_with_one_device_or_none_nothing_is_said(names: list[str]) -> None:
    assert Devices(names).take("a") == {}


def test_the_devices_are_those_that_the_user_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "2,3")
    assert [Devices().take(name) for name in "a"] == [{VISIBLE: "2"}]
    monkeypatch.setenv(VISIBLE, "")
    assert Devices().take("a") == {}
