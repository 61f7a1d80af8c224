"""Quantities that are reported directly instead of scored from a guess: of attacks, of training and of bounds."""

from __future__ import annotations

from wireleak.common.measures.quantities.quantity import Quantity


def _detected(by: str, label: str, score: str, order: int) -> Quantity:
    return Quantity(
        name=f"participant-detected-{by}",
        label=label,
        meaning=(
            f"AUC with which {score} tells the malicious participant's updates from the honest ones', over all pairs "
            "of participant and round; 0.5 is chance, and an honest client 0 (strength or alpha 0) is the control; "
            "the rounds of one training are not independent, so the interval is over seeds"
        ),
        higher_leaks=False,
        low=0.0,
        high=1.0,
        order=order,
    )


_REPORTED = (
    Quantity(
        name="bins-filled",
        label="Bins filled",
        meaning="share of the inputs for which an imprint bin was found; inputs in one bin are read as their mean",
        low=0.0,
        high=1.0,
        percent=True,
        order=70,
    ),
    Quantity(
        name="bits-per-parameter",
        label="Bits a parameter",
        meaning="bits of the secret divided by the number of the network's parameters",
        order=150,
    ),
    Quantity(
        name="parameters-used",
        label="Parameters used",
        meaning="share of the network's parameters whose low bits are overwritten",
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
        meaning="queries to the released model",
        higher_leaks=False,
        places=0,
        order=180,
    ),
    Quantity(
        name="exposure",
        label="Exposure",
        meaning=(
            "how much likelier a planted number is to the model than a random number: log2 of how many numbers there "
            "are, minus log2 of its rank among them; 1.44 on average for a number that the model never saw, and all "
            "the bits (13.3 for four digits) for the likeliest of all; lower where another planted number is likelier"
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
            "exposure from a skew-normal fitted to 1,000 numbers that were never planted; it is not limited by how "
            "many numbers there are"
        ),
        low=0.0,
        places=1,
        unit="bits",
        order=200,
    ),
    Quantity(
        name="canary-epsilon",
        label="ε proved by canaries",
        meaning=(
            "lower bound (95 %) on the ε of training at δ = 10⁻⁵, from guesses which mislabelled examples it used: the "
            "quarter with the highest scores as used, the quarter with the lowest as left out; more canaries can prove "
            "more"
        ),
        low=0.0,
        places=2,
        order=205,
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
        meaning="privacy budget that DP-SGD spent per training example",
        low=0.0,
        places=2,
        order=240,
    ),
    Quantity(
        name="flagged",
        label="Flagged",
        meaning="whether `wireleak inspect` finds hidden data in the link's low bits: 1 if it does",
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
            "accuracy minus the accuracy on a control task of one random label per person, both on held-out rows of "
            "people that the attacker trained on; near 0, the attacker recognises people and not the attribute"
        ),
        low=-1.0,
        high=1.0,
        order=260,
    ),
    Quantity(
        name="seen-people-accuracy",
        label="Accuracy on people it knows",
        meaning="share guessed correctly on held-out rows of people that the attacker trained on, which flatters it",
        low=0.0,
        high=1.0,
        percent=True,
        order=270,
    ),
    Quantity(
        name="control-task-accuracy",
        label="Accuracy on the control task",
        meaning=(
            "share of random labels, one per person, guessed correctly on held-out rows: how much it memorises people"
        ),
        low=0.0,
        high=1.0,
        percent=True,
        order=280,
    ),
    Quantity(
        name="training-mse",
        label="Training MSE",
        meaning="mean squared error on the inputs that the attacker trained on, which flatters it",
        higher_leaks=False,
        low=0.0,
        places=4,
        order=290,
    ),
    Quantity(
        name="dfil",
        label="dFIL",
        meaning=(
            "Fisher information of a message about each input value, Tr(JᵀJ)/(dσ²), mean over victims; for Laplace "
            "noise, σ is replaced by the scale b"
        ),
        low=0.0,
        order=300,
    ),
    Quantity(
        name="eta",
        label="η",
        meaning="how much a message reveals about the most exposed direction of the input, ‖J‖₂/σ (Hannun's FIL)",
        low=0.0,
        places=2,
        order=310,
    ),
    Quantity(
        name="wire-epsilon",
        label="ε of a message",
        meaning=(
            "ε of local differential privacy for one message at δ = 10⁻⁵: messages of two known activations prove a "
            "lower bound (99.9 %), or the attack's hits do (95 %); the noise is an upper bound"
        ),
        low=0.0,
        places=2,
        order=320,
    ),
    Quantity(
        name="gradient-likeness",
        label="Gradients follow labels",
        meaning=(
            "the clients' check: mean cosine between gradients of the same label, minus the mean between different "
            "labels; about 0 where the server ignores labels"
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
            "length of the malicious participant's update divided by the median length of the others', as the server "
            "could see it, mean over rounds; an update of ratio 1 is inconspicuous"
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
    _detected("norm", "Detected by norm", "the distance of an update's norm from the others' median", 352),
    _detected("cosine", "Detected by cosine", "a low cosine of an update with the others' mean", 354),
    _detected("spectral", "Detected by spectrum", "the spectral outlier score of an update (Divide-and-Conquer)", 356),
    Quantity(
        name="feature-probe",
        label="Probe of the features",
        meaning=(
            "AUC of a linear probe that reads the property from the shared model's features (inputs of its last linear "
            "layer): a logistic regression fitted on one half of the examples and scored on the other; no example was "
            "trained on; 0.5 is guessing"
        ),
        low=0.0,
        high=1.0,
        order=357,
    ),
    Quantity(
        name="feature-silhouette",
        label="Silhouette by the property",
        meaning=(
            "how far the shared model's features separate the values of the property: 1 for tight and distant groups, "
            "0 for none; standardised features, Euclidean distance"
        ),
        low=-1.0,
        high=1.0,
        order=358,
    ),
    Quantity(
        name="feature-silhouette-task",
        label="Silhouette by the task",
        meaning="how far the shared model's features separate the classes of its own task, on the same scale",
        higher_leaks=False,
        low=-1.0,
        high=1.0,
        order=359,
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
        meaning="share of the clients whose check reports that the gradients do not follow the task",
        percent=True,
        order=370,
    ),
    Quantity(
        name="hijack-noticed-after",
        label="Noticed after",
        meaning="examples that a client had sent in the last round when its check first reported it",
        higher_leaks=False,
        places=0,
        order=380,
    ),
)
REPORTED = {quantity.name: quantity for quantity in _REPORTED}
