from astraios.testing import check_method


def test_contract():
    check_method("outlora")
