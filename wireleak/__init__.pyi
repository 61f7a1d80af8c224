from adversary.attacks.harness.activation_attack import ActivationAttack as ActivationAttack
from adversary.attacks.harness.attack import Attack as Attack
from adversary.attacks.harness.gradient_attack import GradientAttack as GradientAttack
from adversary.attacks.harness.knowledge import Knowledge as Knowledge
from adversary.attacks.harness.threat import Knows as Knows
from adversary.attacks.harness.threat import ThreatModel as ThreatModel
from adversary.attacks.harness.threat import Vantage as Vantage
from adversary.attacks.harness.update_attack import ModelAttack as ModelAttack
from adversary.attacks.harness.update_attack import UpdateAttack as UpdateAttack
from adversary.tap.decode.observation import Kind as Kind
from adversary.tap.decode.read import observations as observations
from adversary.tap.inspect.command import inspect as inspect
from client.transforms.registry import Changes as Changes
from client.transforms.registry import Transform as Transform
from wireleak.common.measures.scores.measure import Measure as Measure
from wireleak.common.targets.target import Target as Target
from wireleak.lab.api import audit as audit
from wireleak.lab.api import read_results as read_results
from wireleak.lab.api import run as run

__version__: str
