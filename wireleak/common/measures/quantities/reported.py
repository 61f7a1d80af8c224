"""Quantities that are reported as they are, and not scored from a guess: of attacks, of training and of bounds."""

from __future__ import annotations

from wireleak.common.measures.quantities.quantity import Quantity

_REPORTED = (
    Quantity(
        name="bins-filled",
        label="Bins filled",
        meaning="share of the inputs for which an imprint bin was found; of inputs that share one, their mean is read",
        low=0.0,
        high=1.0,
        percent=True,
        order=70,
    ),
    Quantity(
        name="bits-per-parameter",
        label="Bits a parameter",
        meaning="bits of the secret by number of the network's parameters",
        order=150,
    ),
    Quantity(
        name="parameters-used",
        label="Parameters used",
        meaning="share of the network's parameters whose low bits are written over",
        percent=True,
        order=160,
    ),
    Quantity(
        name="bits-per-query",
        label="Bits a query",
        meaning="bits of the secret that one answered query carries",
        places=1,
        order=170,
    ),
    Quantity(
        name="queries",
        label="Queries",
        meaning="questions to the released model",
        higher_leaks=False,
        places=0,
        order=180,
    ),
    Quantity(
        name="exposure",
        label="Exposure",
        meaning=(
            "bits by which a planted number is likelier to the model than any number would be: log2 of how many "
            "numbers there are, less log2 of its rank among them; 1.44 on average for a number that the model never "
            "saw, and all the bits (13.3 of four digits) for the likeliest of all; another planted number that is "
            "likelier costs it"
        ),
        low=0.0,
        places=1,
        unit="bits",
        order=190,
    ),
    Quantity(
        name="exposure-extrapolated",
        label="Extrapolated exposure",
        meaning=(
            "the same by a skew-normal fitted to 1,000 numbers that were never planted, which is not limited by how "
            "many numbers there are"
        ),
        low=0.0,
        places=1,
        unit="bits",
        order=200,
    ),
    Quantity(
        name="words-moved",
        label="Words moved",
        meaning="words whose embedding an update moved, mean over updates",
        higher_leaks=False,
        places=0,
        order=210,
    ),
    Quantity(
        name="epsilon",
        label="ε",
        meaning="what DP-SGD spent of its privacy budget, an example of its training data",
        low=0.0,
        places=2,
        order=240,
    ),
    Quantity(
        name="flagged",
        label="Flagged",
        meaning="whether `wireleak inspect` finds something hidden in the link's low bits: 1 it does",
        higher_leaks=False,
        low=0.0,
        high=1.0,
        places=0,
        order=250,
    ),
    Quantity(
        name="selectivity",
        label="Selectivity",
        meaning=(
            "accuracy less that on a control task of one random label a person, both on held-out rows of people that "
            "the attacker trained on; near 0, the attacker knows its people and not the attribute"
        ),
        low=-1.0,
        high=1.0,
        order=260,
    ),
    Quantity(
        name="seen-people-accuracy",
        label="Accuracy on people it knows",
        meaning="share guessed right among held-out rows of people that the attacker trained on, which flatters it",
        low=0.0,
        high=1.0,
        percent=True,
        order=270,
    ),
    Quantity(
        name="control-task-accuracy",
        label="Accuracy on the control task",
        meaning=(
            "share of random labels, one a person, guessed right on held-out rows: what the attacker learns by heart"
        ),
        low=0.0,
        high=1.0,
        percent=True,
        order=280,
    ),
    Quantity(
        name="training-mse",
        label="Training MSE",
        meaning="mean squared error on the attacker's own inputs that it learnt from, which flatters it",
        higher_leaks=False,
        low=0.0,
        places=4,
        order=290,
    ),
    Quantity(
        name="dfil",
        label="dFIL",
        meaning=(
            "Fisher information of a message about each input value, Tr(JᵀJ)/(dσ²), mean over victims; Laplace noise "
            "has its scale b in σ's place"
        ),
        low=0.0,
        order=300,
    ),
    Quantity(
        name="eta",
        label="η",
        meaning="the most that a message tells about any direction of the input, ‖J‖₂/σ (Hannun's FIL)",
        low=0.0,
        places=2,
        order=310,
    ),
    Quantity(
        name="wire-epsilon",
        label="ε of a message",
        meaning=(
            "local differential privacy of one message at δ = 10⁻⁵: at least what the attack's hits prove (95 %), at "
            "most what the noise proves"
        ),
        low=0.0,
        places=2,
        order=320,
    ),
    Quantity(
        name="gradient-likeness",
        label="Gradients follow labels",
        meaning=(
            "the clients' check: mean cosine between gradients of one label less that across labels; about 0 where "
            "the server ignores labels"
        ),
        higher_leaks=False,
        low=-2.0,
        high=2.0,
        order=330,
    ),
    Quantity(
        name="participant-norm-ratio",
        label="Attacker's norm ratio",
        meaning=(
            "length of the malicious participant's update by the median length of the others', as the server could "
            "see it, mean over rounds; 1 does not stand out"
        ),
        low=0.0,
        order=340,
    ),
    Quantity(
        name="participant-cosine",
        label="Attacker's cosine",
        meaning=(
            "cosine of the malicious participant's update with the mean of the others', as the server could see it, "
            "mean over rounds"
        ),
        low=-1.0,
        high=1.0,
        order=350,
    ),
    Quantity(
        name="device-seconds",
        label="Device CPU",
        meaning="CPU time of a client's training in the last round",
        higher_leaks=False,
        low=0.0,
        places=2,
        unit="s",
        order=360,
    ),
    Quantity(
        name="hijack-suspected",
        label="Hijack suspected",
        meaning="share of the clients whose check says that the gradients are not of the task",
        percent=True,
        order=370,
    ),
    Quantity(
        name="hijack-noticed-after",
        label="Noticed after",
        meaning="examples that a client had sent in the last round when its check first said so",
        higher_leaks=False,
        places=0,
        order=380,
    ),
)
REPORTED = {one.name: one for one in _REPORTED}
