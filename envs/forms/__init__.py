"""Forms: deterministic automata over tokens that say which tokens are valid, and what is paid beside log p*."""

from .making import form_in, make_form
from .names import check_form_name
from .protocol import Form
from .states import conditioned, states_after, states_along

__all__ = ["Form", "check_form_name", "conditioned", "form_in", "make_form", "states_after", "states_along"]
