from crumb.benchmarks import lesson


def test_the_first_prediction_is_the_one_that_solves(place, monkeypatch):
    learner = lesson.taught(place)
    solved = []
    solve = learner._solve
    monkeypatch.setattr(learner, "_solve", lambda: solved.append(1) or solve())
    lesson._predicting(learner, place)
    # A warm-up and one turn that counts.
    assert len(solved) == 2


def test_rows(place):
    observed, predicted = lesson.measure(place)
    assert [figure.name for figure in observed.figures] == ["observe", "front"]
    assert [figure.name for figure in predicted.figures] == ["first prediction", "front"]
    assert observed.at_most == 1.15
    assert observed.details["budget_bytes"] == 64_000
    first, front = (figure.value for figure in predicted.figures)
    beyond = predicted.details["milliseconds_beyond_the_front"]
    assert beyond == 1000 * (first - front)
    assert predicted.note.startswith(f"the first prediction takes {beyond:.1f} ms beyond")


def test_the_front_sees_the_frames_that_are_observed(place, monkeypatch):
    learner = lesson.taught(place)
    shown = []
    features = learner.network.features
    monkeypatch.setattr(
        learner.network, "features", lambda pixels: shown.append(len(pixels)) or features(pixels)
    )
    pixels = lesson.frames(learner, 25)
    learner.observe(pixels, "class 0")
    lesson.front(learner, pixels)()
    assert shown == [21, 4] * 2
    assert int(learner.moments.counts.sum()) == 20 + 25
