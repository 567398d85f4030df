"""From settings to the activities of the standbys' cloud."""

from __future__ import annotations

from collections.abc import Sequence

from activities.endings import EndingActivities
from activities.fleet import FleetActivities, standbys
from activities.listing import SharedListing
from activities.sweep import SweepActivities
from activities.vms import VmActivities
from dumont.config import Settings
from dumont.domain.errors import PreconditionFailed
from dumont.domain.labels import prefix
from dumont.ports import MachineSecrets
from dumont.providers.gcp.adapter import GcpProvider
from dumont.providers.gcp.fleet import VmFleet
from dumont.remote.standby_start import build_standby_start
from worker.compose import Entities, Parts
from worker.compose_ledger import gcp_ledger_activities
from worker.compose_leftovers import gcp_leftovers
from worker.roles import GcpActivities
from worker.standby_zones import zone_picker


def gcp_provider(settings: Settings) -> GcpProvider:
    """The Google project.

    Raises:
        PreconditionFailed: There are no credentials for it.
    """
    if settings.gcp_credentials is None:
        raise PreconditionFailed(
            "the role provider-gcp needs a Google service account",
            field="GCP_CREDENTIALS",
            hint="set GCP_CREDENTIALS, or leave the role out",
        )
    return GcpProvider(
        credentials=settings.gcp_credentials,
        project=settings.gcp_project,
        url=settings.gcp_url,
    )


def gcp_activities(parts: Parts, provider: GcpProvider) -> GcpActivities:
    """Everything that talks to Google Compute, around one listing of the project."""
    fleet = VmFleet(provider, account=provider.account)
    listing = SharedListing(fleet, label_prefix=prefix(env=parts.settings.env))
    entities = Entities(parts)

    def start(keys: MachineSecrets, authorized_keys: Sequence[str]) -> str:
        return build_standby_start(keys=keys, authorized_keys=authorized_keys)

    return GcpActivities(
        vms=VmActivities(
            provider=provider,
            secrets=parts.secrets,
            place=zone_picker(parts.settings),
            start_script=start,
        ),
        endings=EndingActivities(provider=fleet, listing=listing),
        fleet=FleetActivities(
            provider=fleet,
            listing=listing,
            homes=standbys(parts.store, provider=fleet.name),
            send_report=entities.report_standby,
        ),
        sweep=SweepActivities(
            provider=fleet,
            listing=listing,
            store=parts.store,
            describe_owner=entities.describe,
            running_machines=entities.running,
            start_machine=entities.start,
        ),
        leftovers=gcp_leftovers(parts, provider, provider.remains),
        ledger=gcp_ledger_activities(parts, provider, fleet, listing),
    )
