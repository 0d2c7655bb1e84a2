"""Tells the world: the place for an e-mail or a webhook. It may happen again after a crash."""

import logging

from factfold_chassis import Outputs, Reacting, reaction

from service import contract

log = logging.getLogger(__name__)


@reaction(contract.{{cookiecutter.aggregate}}Created)
async def announce_{{cookiecutter.__aggregate_snake}}(
    event: contract.{{cookiecutter.aggregate}}Created,
    call: Reacting,
) -> Outputs:
    log.info("announced %s", event.id)
    return None
