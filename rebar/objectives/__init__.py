"""Gradients of the mean of a user-defined function with discrete sample sites.

An objective is a function f(sample, *args) -> [N] in nats or any other unit, to be maximized, which
draws its latent variables from `sample`:

    def elbo(sample, x):
        b = sample.bernoulli("b", encoder(x))          # [N, H] in {0, 1}
        c = sample.categorical("c", second(b))         # [N, V, C], one-hot
        return log_joint(x, b, c) - sample.log_q

    estimate = rebar.estimate(elbo, x, estimator="DisARM", seed=0, step=step)
    estimate.loss    # its gradient is the estimate of d(-mean f) for all variables

Running the function is a rollout of a model whose layers are the sites in the order of their calls,
with hard, mean-field, relaxed or antithetic samples as the estimator chooses.
"""
