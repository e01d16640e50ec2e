/* The part of verify that looks at the schema: a trigger may do what no row shows yet. */
#include "keys/verify_state.h"

static void tell(void *arg, const struct dk_schema_finding *finding)
{
    static const char *const faults[] = {
        [DK_SCHEMA_MISSING] = "is missing: somebody dropped it",
        [DK_SCHEMA_CHANGED] = "is not the one that dekhand made: somebody changed it",
        [DK_SCHEMA_FOREIGN] = "is not dekhand's: somebody put it there",
    };
    dk_verify_tell(arg, "schema", "", finding->name, "the %s %.100s of %.100s %s", finding->type,
                   finding->name, finding->table, faults[finding->fault]);
}

dk_rc dk_verify_schema(struct dk_verifier *v)
{
    return v->txn->ops->schema(v->txn->self, tell, v, v->err);
}
