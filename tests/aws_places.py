"""Prints tests/vectors/aws_places.txt as botocore's own data say it; for build/cache/python.

Regions with their partitions, where KMS, STS and IAM are asked in one region of each, and in which
region requests to IAM are signed.
"""

import botocore.session
from botocore.endpoint_provider import EndpointProvider

LOADER = botocore.session.get_session().get_component("data_loader")
PARTITIONS = LOADER.load_data("partitions")


def regions(partition):
    return sorted(name for name in partition["regions"] if not name.endswith("-global"))


def endpoints(service):
    provider = EndpointProvider(LOADER.load_service_model(service, "endpoint-rule-set-1"),
                                PARTITIONS)
    for partition in PARTITIONS["partitions"]:
        region = regions(partition)[0]
        for fips in (False, True):
            for dual in (False, True):
                more = {"UseGlobalEndpoint": False} if service == "sts" else {}
                url = provider.resolve_endpoint(Region=region, UseFIPS=fips, UseDualStack=dual,
                                                **more).url
                yield (f"endpoint {service} {region} {'fips' if fips else '-'} "
                       f"{'dual' if dual else '-'} {url}")


def signing():
    """IAM has one region in a partition; what the rules do not say is the region itself."""
    provider = EndpointProvider(LOADER.load_service_model("iam", "endpoint-rule-set-1"), PARTITIONS)
    for partition in PARTITIONS["partitions"]:
        for region in regions(partition):
            found = provider.resolve_endpoint(Region=region, UseFIPS=False, UseDualStack=False)
            schemes = found.properties.get("authSchemes", [{}])
            yield f"signing iam {region} {schemes[0].get('signingRegion', region)}"


def main():
    print("# Source: botocore, data/partitions.json and endpoint-rule-set-1 of kms, sts "
          "and iam, Apache-2.0.")
    for partition in PARTITIONS["partitions"]:
        for region in regions(partition):
            print("region", region, partition["id"], partition["outputs"]["dnsSuffix"])
    for service in ("kms", "sts", "iam"):
        print("\n".join(endpoints(service)))
    print("\n".join(signing()))


if __name__ == "__main__":
    main()
