import pytest
import torch

from sa_lightning.surgery.adapters.low_rank import of_factors, of_matrix, spectrum


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_sum_of_products_has_its_own_rank_and_is_exact():
    parts = [(drawn(40, 3, seed=1), drawn(3, 20, seed=2)), (drawn(40, 2, seed=3), drawn(2, 20, seed=4))]
    parts.append((2 * parts[0][0][:, :1], parts[0][1][:1]))  # along the first: no rank of its own
    whole = sum((left.double() @ right.double() for left, right in parts), torch.zeros(40, 20).double())
    found = of_factors(parts)
    assert found.rank == 5
    assert found.lost / found.energy < 1e-12
    assert float((found.left.double() @ found.right.double() - whole).norm() / whole.norm()) < 1e-6
    assert of_factors([(drawn(4, 1), drawn(1, 3)), (-drawn(4, 1), drawn(1, 3))]) is None


@pytest.mark.parametrize("shape", [(60, 25), (25, 60)])
def test_a_truncated_matrix_is_the_best_of_its_rank_and_says_what_is_lost(shape):
    delta = drawn(*shape)
    u, s, v = torch.linalg.svd(delta.double())
    best = u[:, :7] * s[:7] @ v[:7]
    found = of_matrix(delta, 7)
    assert found.left.shape == (shape[0], 7)
    assert torch.allclose(found.left @ found.right, best.float(), atol=1e-5)
    assert found.lost == pytest.approx(float((s[7:] ** 2).sum()), rel=1e-4)
    assert found.energy == pytest.approx(float((s**2).sum()), rel=1e-6)
    assert torch.allclose(spectrum(delta), s**2, atol=1e-6)
    parts = of_factors([(delta, torch.eye(shape[1]))], 7)
    assert torch.allclose(parts.left @ parts.right, best.float(), atol=1e-5)
    assert parts.error == pytest.approx(found.error, rel=1e-4)


def test_no_rank_is_wasted_on_a_matrix_of_less():
    found = of_matrix(drawn(30, 2) @ drawn(2, 20, seed=1), 9)
    assert found.rank == 2
    assert found.error < 1e-6


def test_a_large_matrix_is_decomposed_at_random_near_the_best_and_the_same_every_time(monkeypatch):
    monkeypatch.setattr("sa_lightning.surgery.adapters.low_rank.SMALL", 8)
    delta = torch.where(drawn(300, 200, seed=1) > 1, drawn(300, 200), 0.0)  # sparse: a flat spectrum, the worst case
    found, again = of_matrix(delta, 10), of_matrix(delta, 10)
    best = float((torch.linalg.svdvals(delta.double())[10:] ** 2).sum())
    assert best < found.lost < 1.01 * best
    assert found.lost == pytest.approx(float((delta - found.left @ found.right).double().pow(2).sum()), rel=1e-6)
    assert torch.equal(found.left, again.left)
