"""The names of notation, address, editing and curves in one place."""

from truncation.address import Address as Address
from truncation.address import Matrices as Matrices
from truncation.address import Params as Params
from truncation.address import ProductAddress as ProductAddress
from truncation.address import at_path as at_path
from truncation.address import product as product
from truncation.curves import evaluate_all as evaluate_all
from truncation.editing import apply as apply
from truncation.editing import decompose_all as decompose_all
from truncation.editing import edit as edit
from truncation.editing import require_finite as require_finite
from truncation.editing import resolve as resolve
from truncation.notation import GROUPS as GROUPS
from truncation.notation import MATRICES as MATRICES
from truncation.notation import Cut as Cut
from truncation.notation import Intervention as Intervention
from truncation.notation import Key as Key
from truncation.notation import keep_top as keep_top
from truncation.notation import parse as parse
